-- Who is working and who leads.

create table worker (
  worker_id   int generated always as identity primary key,
  name        text not null unique,
  slots_limit int check (slots_limit >= 0),
  draining    boolean not null default false,
  reason      text,
  changed_by  text
);
comment on column worker.slots_limit is 'What scale said for this worker; NULL leaves it at the slots it was started with';

create table worker_session (
  session_id   bigint generated always as identity primary key,
  worker_id    int not null references worker,
  key_sha256   bytea not null,
  state        text not null default 'active' check (state in ('active', 'silent', 'dead', 'ended')),
  host         text not null,
  machine_id   text not null,
  pid          int not null,
  version      text not null,
  protocol     int not null,
  slots        int not null check (slots >= 0),
  labels       text[] not null default '{}',
  beat_no      bigint not null default 0,
  beat_at      timestamptz not null,
  last_request bigint not null default 0,
  lease_floor  bigint not null default 0,
  started_at   timestamptz not null,
  ended_at     timestamptz,
  end_reason   text,
  check ((state in ('dead', 'ended')) = (ended_at is not null))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on column worker_session.lease_floor is 'No live lease of the session has a lower request number: counts of its leases start here, behind the dead entries that a held snapshot keeps';
create unique index worker_session_live on worker_session (worker_id) where state in ('active', 'silent');
comment on table worker_session is 'One start of one worker process: active (beats), silent (unheard, some leases may be gone), dead (unheard, all leases gone), ended (signed off)';

create table session_facts (
  session_id bigint primary key,
  facts      jsonb not null,
  at         timestamptz not null
) with (fillfactor = 50);

create table allotment (
  session_id bigint not null,
  lane_id    int not null,
  slots      int not null check (slots >= 0),
  primary key (session_id, lane_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on table allotment is 'How many chunks of a lane a session may run at once; written by odf.allot() alone';

create table leader (
  only_row boolean primary key default true check (only_row),
  term     bigint not null unique,
  holder   text not null,
  expires  timestamptz not null,
  since    timestamptz not null
) with (fillfactor = 50);
comment on column leader.expires is 'By the server''s own clock, never the movable one';
insert into leader (term, holder, expires, since) values (0, '', '-infinity', '-infinity');

create table loop_status (
  loop       text primary key,
  term       bigint not null,
  passes     bigint not null default 0,
  last_at    timestamptz,
  last_ms    bigint,
  result     text,
  failing_since timestamptz
) with (fillfactor = 50);

create table floor_probe (
  lane_id   int not null,
  probed_at timestamptz not null,
  open_xid  xid8 not null,
  seen_seq  bigint not null,
  primary key (lane_id, probed_at)
);
comment on table floor_probe is 'What probes of a lane''s lowest row saw, until they are old enough to move the floor; open_xid is the xmax of the probe''s snapshot';

create table bug_count (
  name    text primary key,
  n       bigint not null default 0,
  last_at timestamptz,
  last    text
);
comment on table bug_count is 'Repairs that should never be needed: every one counted here is a defect of ours';
