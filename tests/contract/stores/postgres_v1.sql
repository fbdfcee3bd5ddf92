CREATE SCHEMA memtrace_old;
CREATE TEXT SEARCH DICTIONARY memtrace_old.stem (
    TEMPLATE = pg_catalog.snowball,
    language = 'porter' );
CREATE TABLE memtrace_old.log (
    session bigint NOT NULL,
    revision bigint NOT NULL,
    place integer NOT NULL,
    payload bytea NOT NULL,
    hash bytea NOT NULL
);
CREATE TABLE memtrace_old.passages (
    seq bigint NOT NULL,
    recall integer NOT NULL,
    item bytea NOT NULL,
    created_at double precision NOT NULL,
    start integer NOT NULL,
    stop integer NOT NULL,
    words integer NOT NULL,
    said tsvector NOT NULL
);
ALTER TABLE memtrace_old.passages ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME memtrace_old.passages_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE memtrace_old.recalls (
    number integer NOT NULL,
    session bigint NOT NULL,
    mark bytea NOT NULL,
    texts bigint NOT NULL,
    words bigint NOT NULL
);
ALTER TABLE memtrace_old.recalls ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME memtrace_old.recalls_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE memtrace_old.runs (
    seq bigint NOT NULL,
    session bigint NOT NULL,
    run bigint NOT NULL,
    kind text NOT NULL,
    agent text,
    started_at double precision NOT NULL,
    duration_s double precision NOT NULL,
    error text,
    token_budget bigint NOT NULL,
    working_memory_before bigint NOT NULL,
    long_term_memory_before bigint NOT NULL,
    cache_before bigint NOT NULL,
    agent_states_before bigint NOT NULL,
    conversation_history_before bigint NOT NULL,
    working_memory_after bigint NOT NULL,
    long_term_memory_after bigint NOT NULL,
    cache_after bigint NOT NULL,
    agent_states_after bigint NOT NULL,
    conversation_history_after bigint NOT NULL,
    actions text NOT NULL,
    hash bytea NOT NULL
);
ALTER TABLE memtrace_old.runs ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME memtrace_old.runs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE memtrace_old.sessions (
    key bigint NOT NULL,
    id bytea NOT NULL,
    revision bigint NOT NULL,
    hash bytea NOT NULL,
    root bytea NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE memtrace_old.store (
    application bigint,
    version integer
);
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 1, 0, '\x98a27332a56669727374cb41dac0dbd977fb8f0a0101c410e7ee2e4f663a41c31bbb0dc229ec0e2884a369647303a472756e7302a8636c65616e75707300a662756467657496cd2710cb3fd999999999999acb3fc3333333333333cb3fb999999999999acb3fb999999999999acb3fd0000000000000', '\xcce6e326e6f7f48be4636bf93c275f78');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 1, 1, '\x96a4707573680400c09da26d31a47573657282a4726f6c65a475736572a7636f6e74656e74be57687920646f657320746865207365636f6e642074657374206661696c3f0ac200cb41dac0dbd977f6b9cb41dac0dbd977f6b9c0c0c090c0c0', '\xe7ee2e4f663a41c31bbb0dc229ec0e28');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 2, 0, '\x98a27337a67365636f6e64cb41dac0dbd97824802c0504c410a7968f2f68fccec19611886ffa6454b984a369647308a472756e7304a8636c65616e75707300a662756467657496cd2710cb3fd999999999999acb3fc3333333333333cb3fb999999999999acb3fb999999999999acb3fd0000000000000', '\xe2e6cd11bb3a73d37ee7d16427f83297');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 2, 1, '\x96a4707573680400c09da26d34a9617373697374616e7482a4726f6c65a9617373697374616e74a7636f6e74656e74bf497473207061746820686173206261636b736c617368657320696e2069742e0bc200cb41dac0dbd9781b4bcb41dac0dbd9781b4bc0c0c090c0c0', '\x3bf0367779ad940a5322d13ce3ea5c02');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 2, 2, '\x96a36164640000c09da26335a8646f63756d656e74d9204f6e2033204d61792077652063686f736520506f737467726553514c2031362e0bc300cb41dac0dbd9781c96cb41dac0dbd9781c96c0c0c090a86465636973696f6ec0', '\xee9e6d2f5a31a65d30bedcd78c3c82db');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 2, 3, '\x96a3707574020092a472617465a34555529da26b36a5636163686581a3555344cb3ff147ae147ae14807c200cb41dac0dbd9781ebecb41dac0dbd9781ebec0c0c090af282772617465272c20274555522729c0', '\x2f89ae8a44cd8f60fc7f90fbaf078052');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 2, 4, '\x96a573746174650300a7706c616e6e6572c081a47374657003', '\xa7968f2f68fccec19611886ffa6454b9');
INSERT INTO memtrace_old.log VALUES (6462404439765593761, 3, 0, '\x98a27339a5636c6f7365cb41dac0dbd9792d332c0500c410a7968f2f68fccec19611886ffa6454b984a36964730aa472756e7305a8636c65616e75707300a662756467657496cd2710cb3fd999999999999acb3fc3333333333333cb3fb999999999999acb3fb999999999999acb3fd0000000000000', '\x6fbec307b6ebf41cf2ac5d9369458c5a');
INSERT INTO memtrace_old.passages OVERRIDING SYSTEM VALUE VALUES (1, 1, '\x6d31', 1795387237.8744338, 0, 30, 6, '''1 doe'':1 ''1 fail'':1 ''1 second'':1 ''1 test'':1 ''1 the'':1 ''1 why'':1');
INSERT INTO memtrace_old.passages OVERRIDING SYSTEM VALUE VALUES (2, 1, '\x6d34', 1795387237.8766658, 0, 31, 6, '''1 backslash'':1 ''1 have'':1 ''1 in'':1 ''1 it'':1,2 ''1 path'':1');
INSERT INTO memtrace_old.passages OVERRIDING SYSTEM VALUE VALUES (3, 1, '\x6335', 1795387237.8767447, 0, 32, 9, '''1 16'':1 ''1 3'':1 ''1 choos'':1 ''1 mai'':1 ''1 on'':1 ''1 postgr'':1 ''1 postgresql'':1 ''1 sql'':1 ''1 we'':1');
INSERT INTO memtrace_old.recalls OVERRIDING SYSTEM VALUE VALUES (1, 6462404439765593761, '\xcaea7c5f549b0e43', 3, 21);
INSERT INTO memtrace_old.runs OVERRIDING SYSTEM VALUE VALUES (1, 6462404439765593761, 1, 'checkpoint', 'first', 1795387237.8745825, 0.002017748, NULL, 10000, 0, 0, 0, 0, 10, 0, 0, 0, 0, 10, '[]', '\x474beb5a3f065343e7e6ab76d09fdfa9');
INSERT INTO memtrace_old.runs OVERRIDING SYSTEM VALUE VALUES (2, 6462404439765593761, 3, 'checkpoint', 'second', 1795387237.8771245, 0.003193491, NULL, 10000, 11, 0, 7, 5, 21, 11, 0, 7, 5, 21, '[]', '\x936e7842df7ddcc0a60cdd3b67bf99ac');
INSERT INTO memtrace_old.sessions VALUES (6462404439765593761, '\x737570706f72742d3432', 3, '\xdaceb3d01efed3403290a6e240a4ee1b', '\xa7968f2f68fccec19611886ffa6454b9');
INSERT INTO memtrace_old.store VALUES (1835363700, 1);
SELECT pg_catalog.setval('memtrace_old.passages_seq_seq', 3, true);
SELECT pg_catalog.setval('memtrace_old.recalls_number_seq', 1, true);
SELECT pg_catalog.setval('memtrace_old.runs_seq_seq', 2, true);
ALTER TABLE ONLY memtrace_old.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (session, revision, place);
ALTER TABLE ONLY memtrace_old.passages
    ADD CONSTRAINT passages_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY memtrace_old.recalls
    ADD CONSTRAINT recalls_pkey PRIMARY KEY (number);
ALTER TABLE ONLY memtrace_old.recalls
    ADD CONSTRAINT recalls_session_key UNIQUE (session);
ALTER TABLE ONLY memtrace_old.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY memtrace_old.runs
    ADD CONSTRAINT runs_session_hash_key UNIQUE (session, hash);
ALTER TABLE ONLY memtrace_old.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (key);
CREATE INDEX passages_of ON memtrace_old.passages USING btree (recall, item);
CREATE INDEX passages_said ON memtrace_old.passages USING gin (said) WITH (fastupdate=off);
