"""Programs run by hand or by make: benchmark, soak, schema and OpenAPI writers."""
