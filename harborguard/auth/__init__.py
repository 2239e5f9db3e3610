"""Authentication: credentials of requests and NextAuth session cookies."""
