"""What Prometheus may ask of a server: figures of requests and jobs in its text format."""

from millrace.metrics.page import MetricsPage
from millrace.metrics.server_metrics import ServerMetrics
from millrace.metrics.state import StateFigures

__all__ = ["MetricsPage", "ServerMetrics", "StateFigures"]
