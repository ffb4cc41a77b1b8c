-- What comparing a target with its source came to: one row a chunk, the newest look.

create table reconciliation (
  chunk_id      bigint primary key,
  generation    int not null check (generation >= 1),
  verdict       text not null check (verdict in ('equal', 'rows_equal', 'differs', 'unknown')),
  expected_rows bigint,
  expected_sum  text,
  expected_from text,
  expected_at   timestamptz,
  found_rows    bigint,
  found_sum     text,
  today_rows    bigint,
  today_sum     text,
  cutoff        text,
  reason        text,
  keys          jsonb,
  checked_at    timestamptz not null,
  checked_by    text not null,
  check (verdict <> 'equal' or expected_sum = found_sum),
  check (verdict not in ('equal', 'rows_equal') or expected_rows is not distinct from found_rows),
  check (verdict in ('equal', 'rows_equal') or reason is not null)
);
comment on table reconciliation is 'What the target held when it was compared with what the source held at its extract; kept as long as the chunk';
comment on column reconciliation.generation is 'The generation of the chunk that was looked at: a newer one has not been compared';
comment on column reconciliation.expected_from is 'The publication whose figures are the source at extract: flow:dataset/key generation N';
comment on column reconciliation.expected_sum is 'A row sum (16 hex digits), or for files sha256:hex';
comment on column reconciliation.today_rows is 'Rows of the source when it was compared; never part of the verdict';
comment on column reconciliation.keys is 'Keys that differ between the target and the source of that moment, at most as many as were asked for';
