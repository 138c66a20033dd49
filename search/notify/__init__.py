"""Who is told when it matters: messages to webhooks and commands, and a heartbeat."""
