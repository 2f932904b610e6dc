"""The SMTP door: listeners, sessions, commands. ``server.SmtpDoor`` opens it; ``docs/smtp.md`` says what it allows."""
