"""Speech Commands, the classification benchmark; nothing else imports it."""
