-- Edges that follow from more than equal keys, and inputs that a plan does not have.

alter table job_input drop constraint job_input_mapping_check;
alter table job_input add constraint job_input_mapping_check
  check (mapping in ('same_key', 'all', 'windows', 'previous', 'to', 'from'));

alter table chunk_edge add column mapping text not null default 'same_key';
comment on column chunk_edge.mapping is 'Which input of the job it serves: one data set may be read twice, as itself and as the window before';

create table chunk_gap (
  chunk_id    bigint not null,
  plan_id     bigint not null,
  data_set_id int not null,
  mapping     text not null,
  wanted      text not null,
  is_key      boolean not null,
  primary key (chunk_id, data_set_id, mapping, wanted)
);
create index chunk_gap_plan on chunk_gap (plan_id);
create index chunk_gap_wanted on chunk_gap (data_set_id, wanted) where is_key;
comment on table chunk_gap is 'Inputs that a chunk needs and that their plan does not have: while there is one, the chunk is never ready';
comment on column chunk_gap.plan_id is 'The chunk''s own plan';
comment on column chunk_gap.data_set_id is 'The input';
comment on column chunk_gap.wanted is 'The missing chunk''s key, or in words where several keys would do';
