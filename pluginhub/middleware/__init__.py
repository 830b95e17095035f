"""The tenant around every view, and the tenant's request interceptors around that.

    MIDDLEWARE = [..., "pluginhub.middleware.PluginMiddleware"]    # after the tenant and the user are known

Outside in: enter the tenant, the interceptors in order, the view. An interceptor sees Django's request and response. An
error that makes the view a 500 reaches it as that error; where it lets it pass, the host answers as ever.
"""

from pluginhub.middleware.entering import PluginMiddleware

__all__ = ["PluginMiddleware"]
