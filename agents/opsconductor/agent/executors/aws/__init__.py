"""AWS: operations through its API and its command line, with one login for both."""
