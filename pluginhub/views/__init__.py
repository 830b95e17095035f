"""What the hub answers over HTTP, one module per family of calls. They translate and decide nothing.

Every view is made by `endpoints.endpoint`: who asks, what the body holds, and how errors look is the same everywhere.
"""
