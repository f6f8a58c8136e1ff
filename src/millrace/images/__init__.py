"""Images that users bring: Dockerfiles built natively, and the store that keeps what came of them."""
