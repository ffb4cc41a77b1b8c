-- What a flow declares: connections, pools, data sets, jobs, lanes. Written by apply, read by all.
-- Runs as odf_owner with search_path = odf; the schema itself is made by the installer.

create type chunk_status as enum (
  'waiting',    -- an input is not validated yet
  'ready',      -- every input is there: a worker may claim it
  'running',    -- leased by one attempt (derived, never stored)
  'complete',   -- published, waiting for a person's approval
  'validated',  -- published and checked: consumers may take it
  'failed',     -- the last attempt failed; retried when its time comes
  'exhausted',  -- no attempts left, or a permanent error: a person decides
  'held',       -- set aside by a person
  'cancelled',  -- ended by a person
  'split',      -- replaced by its children
  'resubmit'    -- a person asked for it to run again (derived, never stored)
);
comment on type chunk_status is 'What production of a chunk has come to; same words and order as ChunkStatus in common/src/domain/chunk.rs';

create table chunk_transition (
  old_status chunk_status not null,
  new_status chunk_status not null,
  primary key (old_status, new_status)
);
comment on table chunk_transition is 'The stored states a chunk may go to; the same pairs as ChunkStatus::successors, compared by a test';
insert into chunk_transition
select split_part(pair, '>', 1)::chunk_status, split_part(pair, '>', 2)::chunk_status
  from unnest(array[
    'waiting>ready', 'waiting>held', 'waiting>cancelled',
    'ready>waiting', 'ready>complete', 'ready>validated', 'ready>failed', 'ready>exhausted',
    'ready>held', 'ready>cancelled', 'ready>split',
    'complete>validated', 'complete>waiting', 'complete>ready', 'complete>cancelled',
    'validated>waiting', 'validated>ready',
    'failed>waiting', 'failed>ready', 'failed>exhausted', 'failed>held', 'failed>cancelled', 'failed>split',
    'exhausted>waiting', 'exhausted>ready', 'exhausted>held', 'exhausted>cancelled', 'exhausted>split',
    'held>waiting', 'held>ready', 'held>validated', 'held>cancelled',
    'cancelled>waiting', 'cancelled>ready',
    'split>waiting', 'split>ready'
  ]) as pair;

create table installation (
  only_row        boolean primary key default true check (only_row),
  installation_id uuid not null default gen_random_uuid(),
  api_version     int not null default 0,
  epoch_offset    int not null default 0 check (epoch_offset >= 0),
  clock_offset    interval not null default '0',
  clock_movable   boolean not null default false,
  attempts_kept   interval not null default '90 days',
  check (clock_movable or clock_offset = '0')
);
comment on column installation.api_version is 'Version of the protocol functions that are installed; only an equal or newer build replaces them';
comment on column installation.epoch_offset is 'Raised after a restore, so that no fence is handed out twice';
comment on column installation.clock_movable is 'True only in databases that a test harness made';
insert into installation default values;

create table flow (
  flow_id         int generated always as identity primary key,
  name            text not null unique,
  current_version int not null default 0
);

create table flow_version (
  flow_id    int not null references flow,
  version    int not null,
  applied_at timestamptz not null,
  applied_by text not null,
  digest     text not null,
  document   text not null,
  model      jsonb not null,
  primary key (flow_id, version)
);
comment on table flow_version is 'Every applied version of a flow file, kept as long as the flow';

create table pool (
  pool_id        int generated always as identity primary key,
  flow_id        int not null references flow,
  name           text not null,
  file_limit     int check (file_limit >= 0),
  operator_set   boolean not null default false,
  operator_limit int check (operator_limit >= 0),
  paused         boolean not null default false,
  reason         text,
  changed_by     text,
  changed_at     timestamptz,
  retired        boolean not null default false,
  unique (flow_id, name)
);
comment on column pool.file_limit is 'The flow file''s limit; NULL is unlimited';
comment on column pool.operator_limit is 'What scale said, in force while operator_set; NULL is unlimited. apply never touches it';

create table data_set (
  data_set_id   int generated always as identity primary key,
  flow_id       int not null references flow,
  name          text not null,
  spec          jsonb not null,
  plan_id       bigint,
  plan_error    text,
  buffer_chunks bigint,
  buffer_bytes  bigint,
  retired       boolean not null default false,
  unique (flow_id, name)
);
comment on column data_set.plan_id is 'The sealed plan in force; NULL until one is sealed';
comment on column data_set.plan_error is 'Why the last attempt to split it failed';

create table job (
  job_id           int generated always as identity primary key,
  flow_id          int not null references flow,
  name             text not null,
  data_set_id      int not null references data_set,
  version          int not null default 1,
  spec             jsonb not null,
  max_attempts     int not null check (max_attempts >= 1),
  backoff          interval not null,
  max_backoff      interval not null,
  silence          interval not null,
  needs_approval   boolean not null default false,
  retired          boolean not null default false,
  unique (flow_id, name)
);
create unique index job_one_producer on job (data_set_id) where not retired;

create table job_input (
  job_id      int not null references job,
  position    int not null,
  data_set_id int not null references data_set,
  mapping     text not null check (mapping in ('same_key', 'all')),
  primary key (job_id, position)
);
create index job_input_data_set on job_input (data_set_id);

-- A lane is where a job's ready chunks wait. Every job has a pool of its own name, so no two jobs
-- share a set of pools and a lane belongs to exactly one job (docs/adr/0003).
create table lane (
  lane_id     int generated always as identity primary key,
  job_id      int not null unique references job,
  priority    int not null default 0,
  depth       int not null default 0,
  labels      text[] not null default '{}',
  paused      boolean not null default false,
  reason      text,
  changed_by  text,
  blocked     text,
  floor_seq   bigint not null default 0
);
comment on column lane.depth is 'Longest way from a source: deeper lanes are claimed first, so that little waits between stages';
comment on column lane.blocked is 'Why the system itself claims nothing here (free space), NULL while open';
comment on column lane.floor_seq is 'No claimable row lies below; claims start their scan here';

create table lane_pool (
  lane_id int not null references lane,
  pool_id int not null references pool,
  primary key (lane_id, pool_id)
);
