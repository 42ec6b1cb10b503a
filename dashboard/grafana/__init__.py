"""What Grafana shows: provisioning, and dashboards that are built as code."""
