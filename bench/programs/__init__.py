"""Model servers that the cases run as processes of their own; nothing here imports Millrace."""
