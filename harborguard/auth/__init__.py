"""Authentication: API keys, access tokens and NextAuth session cookies."""
