"""HTTP requests, with logins."""
