"""One package per AWS service, one module per resource."""
