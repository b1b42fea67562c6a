"""
The route word `admin`: who is subscribed, disconnecting, unsubscribing, and revoking tokens.
"""
