"""
Responses of applications that hand their connection over to one of our actions.
"""
