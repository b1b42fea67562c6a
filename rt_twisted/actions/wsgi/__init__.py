"""
WSGI applications (PEP 3333) in this process, on threads of their own.
"""
