"""Programs that are run by hand or by make: the benchmark, the soak test and the schema writer."""
