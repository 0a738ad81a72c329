"""Run by Alembic. The connection, its transaction included, comes from `store.schema.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], target_metadata=None, transactional_ddl=False)
context.run_migrations()
