"""How `jaxopt_lec.fuse` works: a plan says which outputs of a step are one loop, and each equation's loop is compiled once."""
