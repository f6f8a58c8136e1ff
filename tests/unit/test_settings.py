"""Settings as they are printed."""

from millrace.settings import load


def test_settings_print_without_what_is_secret() -> None:
    """A traceback or a log line with the settings in it tells neither passwords nor tokens."""
    secrets = {"MILLRACE_DATABASE_URL": "postgresql://u:s3cret@h/db", "MILLRACE_METRICS_TOKEN": "s3cret"}
    settings = load(secrets)
    assert settings.metrics_token == "s3cret"
    assert "s3cret" not in repr(settings)
