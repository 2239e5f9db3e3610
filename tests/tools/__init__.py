"""Programs that are run by hand or by make: measurements, fault tests, generated documents."""
