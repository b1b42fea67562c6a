"""
Uploads: files from request bodies, forms, and resumed uploads by tus.
"""
