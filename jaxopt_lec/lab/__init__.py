"""Research tools: fair comparisons of optimizers on small, real workloads (needs the extra ``[lab]``)."""
