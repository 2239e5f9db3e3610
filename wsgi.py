"""The meal: what gunicorn serves, made from the environment. Importing it connects to nothing."""

from app import create_app
from harborguard.config import Config

application = create_app(Config.from_env())
