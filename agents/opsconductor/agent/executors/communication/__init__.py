"""Messages: mail, chats and webhooks."""
