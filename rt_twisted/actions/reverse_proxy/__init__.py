"""
The actions `http` and `uwsgi`: requests are passed on to an application elsewhere.
"""
