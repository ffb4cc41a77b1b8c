-- What the inputs of an attempt answered to the five questions, and what was checked about its output:
-- in rows that exist anyway, without an index of their own.

alter table publication
  add column connection  text,
  add column environment text,
  add column evidence    text check (octet_length(evidence) <= 200),
  add column validation  text check (octet_length(validation) <= 8000);
comment on column publication.connection is 'The connection under which location stands, as declared when it was published';
comment on column publication.environment is 'That connection''s environment label then';
comment on column publication.evidence is 'JSON: the inputs'' answers to the five questions (Evidence in common/src/domain/verdict.rs); NULL for a source';
comment on column publication.validation is 'JSON: format, rows, row sum and rules with their figures (Validation in common/src/domain/validation.rs); NULL was published unvalidated';

alter table attempt
  add column evidence text check (octet_length(evidence) <= 200);
comment on column attempt.evidence is 'As publication.evidence, for attempts that published nothing too';

-- A report asks for a window of time; rows come in that order, so a block range index is small and exact enough.
create index attempt_ended_at on attempt using brin (ended_at) with (pages_per_range = 16);
