-- Chunks in three write classes: the catalog (written at plan time), narrow hot rows, and the
-- publications that are kept as long as the data set.

create table plan (
  plan_id      bigint generated always as identity primary key,
  data_set_id  int not null references data_set,
  version      int not null,
  state        text not null check (state in ('writing', 'sealed', 'retired')),
  partition    jsonb not null,
  chunks       bigint not null default 0,
  digest       text,
  notes        text[] not null default '{}',
  started_at   timestamptz not null,
  sealed_at    timestamptz,
  released_to  bigint not null default 0,
  unique (data_set_id, version),
  check ((state = 'writing') = (sealed_at is null))
);
comment on column plan.released_to is 'How far, by ordinal, odf.promote has looked for chunks whose inputs were there before the plan was';
create unique index plan_one_writer on plan (data_set_id) where state = 'writing';
alter table data_set add foreign key (plan_id) references plan;

create table data_chunk (
  chunk_id    bigint generated always as identity primary key,
  plan_id     bigint not null,
  data_set_id int not null,
  ordinal     bigint not null check (ordinal >= 1),
  key         text not null check (key <> ''),
  bounds      jsonb not null,
  est_rows    bigint,
  est_bytes   bigint,
  parent_id   bigint,
  unique (plan_id, ordinal),
  unique (plan_id, key)
);
comment on table data_chunk is 'The catalog: what each chunk is. Written with the plan, never touched by a claim';

create table chunk_edge (
  input_id bigint not null,
  chunk_id bigint not null,
  primary key (input_id, chunk_id)
);
create index chunk_edge_chunk on chunk_edge (chunk_id);
comment on table chunk_edge is 'Which chunk is made from which, for inputs taken chunk by chunk';

create table chunk_state (
  chunk_id     bigint primary key,
  data_set_id  int not null,
  status       chunk_status not null check (status not in ('running', 'resubmit')),
  attempt_no   int not null default 0 check (attempt_no >= 0),
  charged      int not null default 0 check (charged >= 0),
  lost         int not null default 0 check (lost >= 0),
  generation   int not null default 0 check (generation >= 0),
  last_fence   bigint,
  last_session bigint,
  rows_out     bigint not null default 0,
  bytes_out    bigint not null default 0,
  removed      boolean not null default false,
  retry_at     timestamptz,
  reason       text,
  changed_at   timestamptz not null,
  check ((status = 'failed') = (retry_at is not null)),
  check (status not in ('validated', 'complete') or generation >= 1),
  check (status not in ('held', 'cancelled', 'exhausted', 'failed') or reason is not null)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
comment on column chunk_state.attempt_no is 'Attempts that have ended, whatever their end; the next one is attempt_no + 1';
comment on column chunk_state.charged is 'Attempts since the last resubmit that count against retry.attempts';
comment on column chunk_state.generation is 'How often it has been published; 0 never';

comment on column chunk_state.removed is 'Its published data is gone or going under the keep rule: a consumer that runs again needs it made again';

create index chunk_state_removed on chunk_state (data_set_id) where removed;

create sequence ready_seq;
create table ready (
  lane_id  int not null,
  seq      bigint not null,
  chunk_id bigint not null,
  attempt  int not null,
  primary key (lane_id, seq)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on table ready is 'Claimable rows only. A row whose chunk is no longer ready with that attempt number is dropped by the claim';

create table due (
  due_at   timestamptz not null,
  chunk_id bigint not null,
  attempt  int not null,
  primary key (due_at, chunk_id)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on table due is 'Failed chunks by the time of their retry';

create table lease (
  chunk_id    bigint primary key,
  fence       bigint not null,
  attempt     int not null,
  session_id  bigint not null,
  lane_id     int not null,
  job_id      int not null,
  data_set_id int not null,
  request_no  bigint not null,
  silence     interval not null,
  input_ids   bigint[] not null default '{}',
  input_gens  int[] not null default '{}',
  fan_in_mark bigint[] not null default '{}',
  claimed_at  timestamptz not null,
  abort       text check (abort in ('term', 'kill')),
  abort_why   text,
  rows_done   bigint,
  bytes_done  bigint
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index lease_session on lease (session_id, request_no);
comment on column lease.fan_in_mark is 'For inputs taken whole: the number of publications of each such data set at claim, in input order';

create table publication (
  chunk_id     bigint not null,
  generation   int not null,
  fence        bigint not null,
  attempt      int not null,
  worker       text not null,
  location     text,
  rows_out     bigint,
  bytes_out    bigint,
  checksum     text,
  input_ids    bigint[] not null default '{}',
  input_gens   int[] not null default '{}',
  fan_in_mark  bigint[] not null default '{}',
  claimed_at   timestamptz not null,
  published_at timestamptz not null,
  removed_at   timestamptz,
  primary key (chunk_id, generation)
);
create index publication_published_at on publication (published_at);
comment on table publication is 'That a generation exists: kept as long as the data set, never pruned';
comment on column publication.removed_at is 'When its data was deleted under the data set''s keep rule';

create table removal (
  chunk_id    bigint not null,
  generation  int not null,
  due_at      timestamptz not null,
  taken_until timestamptz,
  error       text,
  primary key (chunk_id, generation)
);
create index removal_due on removal (due_at);
comment on table removal is 'Published data that its keep rule, or a newer generation, gives up; workers delete it';

create table progress (
  data_set_id int not null,
  status      chunk_status not null,
  n           bigint not null,
  rows_out    bigint not null,
  bytes_out   bigint not null,
  generations bigint not null,
  primary key (data_set_id, status)
) with (fillfactor = 50);

create table progress_delta (
  data_set_id int not null,
  status      chunk_status not null,
  n           bigint not null,
  rows_out    bigint not null,
  bytes_out   bigint not null,
  generations bigint not null
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
comment on table progress_delta is 'Written by triggers with every change of chunk_state, folded into progress by the leader';

create view progress_now as
  select data_set_id, status, sum(n)::bigint as n, sum(rows_out)::bigint as rows_out,
         sum(bytes_out)::bigint as bytes_out, sum(generations)::bigint as generations
    from (select * from progress union all select * from progress_delta) both_parts
   group by data_set_id, status;

create table chunk_request (
  request_id   bigint generated always as identity primary key,
  chunk_id     bigint not null,
  verb         text not null check (verb in ('resubmit', 'held', 'cancelled')),
  reason       text not null,
  requested_by text not null,
  requested_at timestamptz not null
);
create index chunk_request_chunk on chunk_request (chunk_id);
comment on table chunk_request is 'What people asked for and what cannot be done yet (a running chunk, a chunk being read)';
