-- Planning again: what was asked for, the plans prepared for it, and what became of chunks that left.

create table replan (
  replan_id    bigint generated always as identity primary key,
  data_set_id  int not null references data_set,
  state        text not null default 'asked' check (state in ('asked', 'prepared', 'confirmed', 'done', 'failed', 'withdrawn')),
  consent      boolean not null,
  drain        boolean not null,
  reason       text,
  requested_by text not null,
  requested_at timestamptz not null,
  changed_at   timestamptz not null,
  preview      jsonb,
  error        text,
  hint         text,
  refused      boolean not null default false,
  check (state <> 'failed' or error is not null)
);
comment on table replan is 'A data set to be cut again: asked (being split), prepared (counted, waits for consent), confirmed (claims are stopped, waits for what runs), then done, failed or withdrawn';
comment on column replan.consent is 'Takes force as soon as it is prepared, without asking again';
comment on column replan.drain is 'Waits for running chunks rather than being refused by them';
comment on column replan.refused is 'It failed because it may not be done, not because something broke';
create index replan_open on replan (replan_id) where state in ('asked', 'prepared', 'confirmed');

create table replan_plan (
  replan_id   bigint not null references replan,
  data_set_id int not null references data_set,
  plan_id     bigint not null,
  old_plan_id bigint not null,
  primary key (replan_id, data_set_id)
);
comment on table replan_plan is 'The plans that a replan prepares, and those that they replace; plan_id names no row any more once it was discarded';
create index replan_plan_plan on replan_plan (plan_id);

alter table data_chunk add column kept_id bigint;
comment on column data_chunk.kept_id is 'In a prepared plan: the chunk of the plan in force that this one equals; when the plan takes force that chunk moves here in its place';
alter table data_chunk add column attempt_base int not null default 0;
comment on column data_chunk.attempt_base is 'Its attempts are numbered from here on: above all those of chunks that left the data set, so that no fence and no path comes twice';

alter table data_set add column attempt_base int not null default 0;
comment on column data_set.attempt_base is 'The highest attempt number of any chunk that ever left the data set';
alter table data_set add column mark_base bigint not null default 0;
comment on column data_set.mark_base is 'Generations of chunks that left, and one for every new plan: who took the data set whole sees that it changed';

alter table lane add column replan_id bigint;
comment on column lane.replan_id is 'The replan for which nothing is claimed here, NULL while open';

create table retired_chunk (
  chunk_id   bigint primary key,
  status     chunk_status not null,
  attempt_no int not null,
  generation int not null,
  last_fence bigint,
  rows_out   bigint not null,
  bytes_out  bigint not null,
  removed    boolean not null,
  reason     text,
  changed_at timestamptz not null,
  retired_at timestamptz not null
);
comment on table retired_chunk is 'How chunks stood that are not in the plan that replaced theirs; their publications stay';
