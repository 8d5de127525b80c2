"""The same methods under the names, arguments and conventions of other frameworks."""
