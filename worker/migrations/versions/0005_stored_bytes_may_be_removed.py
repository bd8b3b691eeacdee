"""stored bytes may be removed"""

import sqlalchemy as sa
from alembic import op

import worker.database

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('study', schema=None) as batch_op:
        batch_op.add_column(sa.Column('failure_acknowledged_at', worker.database.UtcDateTime(timezone=True), nullable=True))
        batch_op.create_index('ix_study_last_received_at', ['last_received_at', 'id'], unique=False)

    with op.batch_alter_table('instance', schema=None) as batch_op:
        batch_op.add_column(sa.Column('removal_began_at', worker.database.UtcDateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column('bytes_removed_at', worker.database.UtcDateTime(timezone=True), nullable=True))
        batch_op.create_index('ix_instance_kept', ['study_id'], unique=False, postgresql_where=sa.text('bytes_removed_at IS NULL'), sqlite_where=sa.text('bytes_removed_at IS NULL'))


def downgrade() -> None:
    with op.batch_alter_table('instance', schema=None) as batch_op:
        batch_op.drop_index('ix_instance_kept', postgresql_where=sa.text('bytes_removed_at IS NULL'), sqlite_where=sa.text('bytes_removed_at IS NULL'))
        batch_op.drop_column('bytes_removed_at')
        batch_op.drop_column('removal_began_at')

    with op.batch_alter_table('study', schema=None) as batch_op:
        batch_op.drop_index('ix_study_last_received_at')
        batch_op.drop_column('failure_acknowledged_at')
