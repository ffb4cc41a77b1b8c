-- Something to move: 100,000 orders, and an empty table for them. Safe to repeat.
create table if not exists public.orders (
  order_id bigint primary key,
  customer text not null,
  ordered  timestamptz not null,
  amount   numeric(12, 2) not null
);
insert into public.orders
select n, 'customer ' || n % 1000, timestamptz '2024-01-01 00:00 UTC' + n * interval '5 minutes', n % 977 * 1.25
  from generate_series(1, 100000) n
on conflict do nothing;
analyze public.orders;
create schema if not exists stage;
create table if not exists stage.orders (like public.orders including all);
