"""finished work may be removed"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('work_item', schema=None) as batch_op:
        batch_op.create_index('ix_work_item_done', ['finished_at'], unique=False, postgresql_where=sa.text("state = 'done'"), sqlite_where=sa.text("state = 'done'"))
        batch_op.create_index('ix_work_item_quarantined', ['finished_at'], unique=False, postgresql_where=sa.text("state = 'quarantined'"), sqlite_where=sa.text("state = 'quarantined'"))


def downgrade() -> None:
    with op.batch_alter_table('work_item', schema=None) as batch_op:
        batch_op.drop_index('ix_work_item_quarantined', postgresql_where=sa.text("state = 'quarantined'"), sqlite_where=sa.text("state = 'quarantined'"))
        batch_op.drop_index('ix_work_item_done', postgresql_where=sa.text("state = 'done'"), sqlite_where=sa.text("state = 'done'"))
