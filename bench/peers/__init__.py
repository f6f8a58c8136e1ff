"""Programs that run in the peers' own environments; nothing here imports Millrace."""
