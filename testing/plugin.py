"""The pytest plugin: the fixtures, where pytest-asyncio is there to run them (`natsgate[testing]`).

pytest imports this wherever natsgate is installed, so it imports nothing else.
"""

from importlib.util import find_spec

pytest_plugins = ['natsgate.testing.fixtures'] if find_spec('pytest_asyncio') else []
