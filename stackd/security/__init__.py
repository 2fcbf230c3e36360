"""Keys and what is made with them. The only package that imports `cryptography`."""
