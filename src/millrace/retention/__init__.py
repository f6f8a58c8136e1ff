"""What nobody needs any more, found by rules and removed: the work of `millrace gc` and of the server's daily run."""

from millrace.retention.collectors import collectors
from millrace.retention.daily import run_daily
from millrace.retention.leftover import Collector, Leftover, LeftoverKind, Rules, rules_of
from millrace.retention.run import Report, collect

__all__ = ["Collector", "Leftover", "LeftoverKind", "Report", "Rules", "collect", "collectors", "rules_of", "run_daily"]
