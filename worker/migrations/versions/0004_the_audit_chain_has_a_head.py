"""the audit chain has a head, its rows cannot be changed, predictions say what they were made with"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

import worker.database

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

GENESIS = '0' * 64
FORWARD_ONLY = (
    'NEW.count <= OLD.count OR NEW.last_id <= OLD.last_id '
    'OR (NEW.gapless_after <> OLD.gapless_after AND OLD.count > 0)'  # a restore brings it into an empty chain
)
# The head goes forward first, then come the events that it reaches. A service of an older release, which knows of no
# head, takes the next number by itself: refused, or it would take it from those that do.
BEYOND_THE_HEAD = 'NEW.id > coalesce((SELECT last_id FROM audit_head), 0)'
NOT_AT_THE_END = (
    'audit_event is append-only: this event is not at the end that audit_head says. Does a service of an older release '
    'still run? Stop it, and start this one'
)

SQLITE_TRIGGERS = {
    'audit_event_no_update': "BEFORE UPDATE ON audit_event BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END",
    'audit_event_no_delete': "BEFORE DELETE ON audit_event BEGIN SELECT RAISE(ABORT, 'audit_event is append-only'); END",
    # INSERT OR REPLACE deletes without the trigger above; a number in between would be an event slipped in.
    'audit_event_at_the_end': (
        # A number that is still to be given reads as -1 here.
        f'BEFORE INSERT ON audit_event WHEN NEW.id < 1 OR {BEYOND_THE_HEAD} '
        'OR EXISTS (SELECT 1 FROM audit_event WHERE id >= NEW.id OR sha256 = NEW.sha256) '
        f"BEGIN SELECT RAISE(ABORT, '{NOT_AT_THE_END}'); END"
    ),
    'audit_head_no_delete': "BEFORE DELETE ON audit_head BEGIN SELECT RAISE(ABORT, 'audit_head stays'); END",
    'audit_head_one_row': (
        'BEFORE INSERT ON audit_head WHEN EXISTS (SELECT 1 FROM audit_head) '
        "BEGIN SELECT RAISE(ABORT, 'audit_head has one row'); END"
    ),
    'audit_head_forward': (
        f"BEFORE UPDATE ON audit_head WHEN {FORWARD_ONLY} BEGIN SELECT RAISE(ABORT, 'audit_head goes forward only'); END"
    ),
}
POSTGRESQL_FUNCTIONS = {
    'audit_refuse': "BEGIN RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP; END",
    'audit_at_the_end': (
        f'BEGIN IF {BEYOND_THE_HEAD} OR EXISTS (SELECT 1 FROM audit_event WHERE id >= NEW.id) '
        f"THEN RAISE EXCEPTION '{NOT_AT_THE_END}'; END IF; RETURN NEW; END"
    ),
}
POSTGRESQL_TRIGGERS = {
    'audit_event_no_change': 'BEFORE UPDATE OR DELETE ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_refuse()',
    'audit_event_at_the_end': 'BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION audit_at_the_end()',
    'audit_event_no_truncate': 'BEFORE TRUNCATE ON audit_event FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()',
    'audit_head_no_delete': 'BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse()',
    'audit_head_no_truncate': 'BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()',
    'audit_head_forward': (
        f'BEFORE UPDATE ON audit_head FOR EACH ROW WHEN ({FORWARD_ONLY}) EXECUTE FUNCTION audit_refuse()'
    ),
}


def upgrade() -> None:
    op.create_table('audit_head',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('count', sa.Integer(), nullable=False),
    sa.Column('last_id', sa.Integer(), nullable=False),
    sa.Column('last_sha256', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('gapless_after', sa.Integer(), nullable=False),
    sa.CheckConstraint('id = 1', name=op.f('ck_audit_head_one_row')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_head'))
    )
    op.create_table('audit_cursor',
    sa.Column('receiver', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('last_id', sa.Integer(), nullable=False),
    sa.Column('held_by', sqlmodel.sql.sqltypes.AutoString(), nullable=False),
    sa.Column('held_until', worker.database.UtcDateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('receiver', name=op.f('pk_audit_cursor'))
    )
    op.create_index(op.f('ix_audit_event_subject'), 'audit_event', ['subject'], unique=False)
    op.add_column('prediction', sa.Column('environment', sa.JSON(), nullable=True))
    op.execute(
        'INSERT INTO audit_head (id, count, last_id, last_sha256, gapless_after) '
        'SELECT 1, (SELECT count(*) FROM audit_event), coalesce(max(id), 0), '
        f"coalesce((SELECT sha256 FROM audit_event ORDER BY id DESC LIMIT 1), '{GENESIS}'), coalesce(max(id), 0) "
        'FROM audit_event'
    )
    if op.get_bind().dialect.name == 'postgresql':
        for name, body in POSTGRESQL_FUNCTIONS.items():
            op.execute(f'CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$')
        triggers = POSTGRESQL_TRIGGERS
    else:
        triggers = SQLITE_TRIGGERS
    for name, body in triggers.items():
        op.execute(f'CREATE TRIGGER {name} {body}')


def downgrade() -> None:
    if op.get_bind().dialect.name == 'postgresql':
        for name, body in POSTGRESQL_TRIGGERS.items():
            op.execute(f"DROP TRIGGER {name} ON {body.partition(' ON ')[2].partition(' ')[0]}")
        for name in POSTGRESQL_FUNCTIONS:
            op.execute(f'DROP FUNCTION {name}()')
    else:
        for name in SQLITE_TRIGGERS:
            op.execute(f'DROP TRIGGER {name}')
    op.drop_column('prediction', 'environment')
    op.drop_index(op.f('ix_audit_event_subject'), table_name='audit_event')
    op.drop_table('audit_cursor')
    op.drop_table('audit_head')
