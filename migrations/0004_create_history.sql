-- Diagnosis only: nothing that decides reads these tables, and old partitions are dropped.

create table attempt (
  ended_at      timestamptz not null,
  chunk_id      bigint not null,
  attempt       int not null,
  fence         bigint not null,
  session_id    bigint not null,
  worker        text not null,
  host          text not null,
  claimed_at    timestamptz not null,
  outcome       text not null check (outcome in ('validated', 'failed', 'released', 'lost')),
  class         text,
  charged       boolean not null,
  error         text,
  exit_code     int,
  signal        int,
  rows_out      bigint,
  bytes_out     bigint,
  duration_ms   bigint,
  script_sha256 text,
  log_path      text,
  log_tail      text
) partition by range (ended_at);
create index attempt_chunk on attempt (chunk_id, attempt);
create table attempt_default partition of attempt default;

create table event (
  at       timestamptz not null,
  event_id bigint generated always as identity,
  kind     text not null,
  actor    text not null,
  subject  text,
  message  text not null,
  detail   jsonb
) partition by range (at);
create index event_at on event (at desc);
create table event_default partition of event default;
