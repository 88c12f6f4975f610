"""Neural networks as scikit-learn estimators: what learns is a framework's, what is saved are arrays.

Front doors: network (what each framework is asked for), torch_net, tensorflow_net.
An extra of pyproject.toml brings the framework.
"""
