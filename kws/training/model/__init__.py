"""The scanning network, its files and its export."""
