-- What was made from superseded data, holds that end by themselves, and what a request carries for both.

alter table chunk_state
  add column stale_since timestamptz,
  add column hold_until  timestamptz,
  add check (hold_until is null or status = 'held');
comment on column chunk_state.stale_since is 'Since when a newer generation of an input is published than its own generation was made from; NULL is up to date';
comment on column chunk_state.hold_until is 'When a hold ends by itself; NULL is never';
create index chunk_state_stale on chunk_state (data_set_id, chunk_id) include (stale_since) where stale_since is not null;
create index chunk_state_hold_until on chunk_state (hold_until) where hold_until is not null;

alter table chunk_request
  add column until       timestamptz,
  add column data_set_id int;
comment on column chunk_request.until is 'When a hold is to end by itself';
comment on column chunk_request.data_set_id is 'The chunk''s data set; NULL where the system asked because the data was removed, which consumers see anyway';
create index chunk_request_data_set on chunk_request (data_set_id);

create table whole_look (
  job_id    int primary key references job,
  mark      bigint[] not null,
  walked_to bigint not null
);
comment on table whole_look is 'Up to which publications of its whole inputs a job''s output was looked at for staleness, and how far, by ordinal';

-- What was superseded before this column was. Whole inputs are the leader's to find.
update chunk_state c set stale_since = clock_timestamp()
  from publication p
 where p.chunk_id = c.chunk_id and p.generation = c.generation
   and exists (select from unnest(p.input_ids, p.input_gens) u(id, gen) join chunk_state i on i.chunk_id = u.id where i.generation <> u.gen);
