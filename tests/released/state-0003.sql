-- Schema 0003, in use before it was released; never edited.
PRAGMA page_size = 8192;
BEGIN TRANSACTION;
CREATE TABLE agents (
	agent TEXT NOT NULL, 
	site TEXT NOT NULL, 
	state TEXT NOT NULL, 
	enrolled_us INTEGER NOT NULL, 
	host TEXT DEFAULT '' NOT NULL, 
	platform TEXT DEFAULT '' NOT NULL, 
	version TEXT DEFAULT '' NOT NULL, 
	last_seen_us INTEGER DEFAULT '0' NOT NULL, 
	connected INTEGER DEFAULT '0' NOT NULL, 
	desired_revision INTEGER DEFAULT '0' NOT NULL, 
	revision INTEGER DEFAULT '0' NOT NULL, 
	config_state TEXT DEFAULT '' NOT NULL, 
	config_reason TEXT DEFAULT '' NOT NULL, 
	health TEXT DEFAULT '{}' NOT NULL, 
	certificate_expires_us INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (agent)
);
INSERT INTO "agents" VALUES('atl1','atl1','active',1,'h','p','0.1.0',0,0,0,0,'','','{}',9);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE attempts (
	sink_id INTEGER NOT NULL, 
	event_seq INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	at_us INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	code TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (sink_id, event_seq, attempt, at_us)
)
 WITHOUT ROWID

;
CREATE TABLE bodies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	data BLOB NOT NULL
);
CREATE TABLE dead_letters (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	kind TEXT NOT NULL, 
	source_id INTEGER NOT NULL, 
	input_id INTEGER NOT NULL, 
	sink_id INTEGER, 
	event_seq INTEGER, 
	code TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	field TEXT NOT NULL, 
	records INTEGER NOT NULL, 
	locator TEXT NOT NULL, 
	sample BLOB NOT NULL, 
	rows TEXT NOT NULL, 
	state TEXT NOT NULL, 
	created_us INTEGER NOT NULL, 
	resolved_us INTEGER DEFAULT '0' NOT NULL, 
	resolved_by TEXT DEFAULT '' NOT NULL, 
	note TEXT DEFAULT '' NOT NULL
);
CREATE TABLE deliveries (
	sink_id INTEGER NOT NULL, 
	event_seq INTEGER NOT NULL, 
	state INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	due_us INTEGER, 
	chain INTEGER, 
	since_us INTEGER, 
	run_id INTEGER, 
	PRIMARY KEY (sink_id, event_seq)
)
 WITHOUT ROWID

;
INSERT INTO "deliveries" VALUES(1,1,2,0,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES(1,2,2,0,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES(1,3,2,0,NULL,NULL,NULL,NULL);
CREATE TABLE events (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id BLOB NOT NULL, 
	document TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	input_id INTEGER NOT NULL, 
	record INTEGER NOT NULL, 
	line INTEGER NOT NULL, 
	records INTEGER NOT NULL, 
	locator TEXT, 
	warnings TEXT, 
	body_id INTEGER NOT NULL, 
	body_start INTEGER NOT NULL, 
	body_length INTEGER NOT NULL
);
INSERT INTO "events" VALUES(1,X'00000000000000000000000000000000','StockLevel','k0',1,0,1,1,NULL,NULL,1,0,1);
INSERT INTO "events" VALUES(2,X'01010101010101010101010101010101','StockLevel','k1',1,0,1,1,NULL,NULL,1,0,1);
INSERT INTO "events" VALUES(3,X'02020202020202020202020202020202','StockLevel','k2',1,0,1,1,NULL,NULL,1,0,1);
CREATE TABLE facts (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID

;
INSERT INTO "facts" VALUES('store',X'00112233445566778899AABBCCDDEEFF');
CREATE TABLE holder(
    one INTEGER PRIMARY KEY CHECK(one = 1), id TEXT NOT NULL, generation INTEGER NOT NULL, host TEXT NOT NULL,
    machine TEXT NOT NULL, pid INTEGER NOT NULL, place TEXT NOT NULL, file TEXT NOT NULL, since_us INTEGER NOT NULL,
    beat_us INTEGER NOT NULL, released_us INTEGER NOT NULL, min_free_disk_bytes INTEGER NOT NULL
);
CREATE TABLE inputs (
	id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	epoch BLOB NOT NULL, 
	sequence INTEGER NOT NULL, 
	received_us INTEGER NOT NULL, 
	origin_kind TEXT NOT NULL, 
	origin_name TEXT NOT NULL, 
	unit BLOB NOT NULL, 
	normalized_us INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	records INTEGER NOT NULL, 
	mapped INTEGER NOT NULL, 
	dead INTEGER NOT NULL, 
	ignored INTEGER NOT NULL, 
	duplicates INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (source_id, epoch, sequence)
);
CREATE TABLE normalizer_checkpoints (
	stream_id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	record INTEGER NOT NULL, 
	owner TEXT, 
	lease_until_us INTEGER DEFAULT '0' NOT NULL, 
	problem TEXT DEFAULT '' NOT NULL, 
	problem_us INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (stream_id)
);
INSERT INTO "normalizer_checkpoints" VALUES(1,1,4,2,NULL,0,'',0);
CREATE TABLE revisions (
	number INTEGER NOT NULL, 
	hash TEXT NOT NULL, 
	tree TEXT NOT NULL, 
	author TEXT NOT NULL, 
	message TEXT NOT NULL, 
	created_us INTEGER NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE runs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	sink_id INTEGER NOT NULL, 
	started_us INTEGER NOT NULL, 
	ended_us INTEGER NOT NULL, 
	deliveries INTEGER NOT NULL, 
	done INTEGER NOT NULL, 
	problem TEXT DEFAULT '' NOT NULL
);
CREATE TABLE set_aside (
	stream_id INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (stream_id, sequence, position)
)
 WITHOUT ROWID

;
INSERT INTO "set_aside" VALUES(1,7,2,'a worker died at it');
CREATE TABLE sink_cursors (
	sink_id INTEGER NOT NULL, 
	event_seq INTEGER NOT NULL, 
	owner TEXT, 
	lease_until_us INTEGER DEFAULT '0' NOT NULL, 
	paused INTEGER DEFAULT '0' NOT NULL, 
	failures INTEGER DEFAULT '0' NOT NULL, 
	problem TEXT DEFAULT '' NOT NULL, 
	next_try_us INTEGER DEFAULT '0' NOT NULL, down_us INTEGER DEFAULT '0' NOT NULL, 
	PRIMARY KEY (sink_id)
);
CREATE TABLE sinks (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
CREATE TABLE sources (
	id INTEGER NOT NULL, 
	site TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	source TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (site, agent, source)
);
INSERT INTO "sources" VALUES(1,'atl1','atl1','stock');
CREATE TABLE strangers (
	agent TEXT NOT NULL, 
	peer TEXT NOT NULL, 
	first_us BIGINT NOT NULL, 
	last_us BIGINT NOT NULL, 
	PRIMARY KEY (agent)
)
 WITHOUT ROWID

;
INSERT INTO "strangers" VALUES('atl9','ipv4:192.0.2.9:4711',1772366400000000,1772366500000000);
CREATE TABLE suspects (
	stream_id INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	record INTEGER NOT NULL, 
	until_sequence INTEGER NOT NULL, 
	deaths INTEGER NOT NULL, 
	last_us INTEGER NOT NULL, 
	PRIMARY KEY (stream_id)
);
INSERT INTO "suspects" VALUES(1,7,2,9,1,1769000000000000);
CREATE TABLE tokens (
	hash TEXT NOT NULL, 
	site TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	uses_left INTEGER NOT NULL, 
	expires_us INTEGER NOT NULL, 
	created_us INTEGER NOT NULL, 
	PRIMARY KEY (hash)
);
INSERT INTO "tokens" VALUES('hash','rtm1','rtm1',1,1152921504606846976,1);
CREATE TABLE wakers (
	role TEXT NOT NULL, 
	port INTEGER NOT NULL, 
	pid INTEGER NOT NULL, 
	owner TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (role, port)
)
 WITHOUT ROWID

;
CREATE UNIQUE INDEX events_id ON events (id);
CREATE INDEX events_key ON events (document, "key", seq);
CREATE INDEX deliveries_due ON deliveries (sink_id, due_us, event_seq) WHERE due_us IS NOT NULL;
CREATE INDEX deliveries_chain ON deliveries (sink_id, chain, event_seq) WHERE chain IS NOT NULL;
CREATE INDEX dead_letters_state ON dead_letters (state, id);
CREATE INDEX dead_letters_long ON dead_letters (input_id) WHERE code = 'group_too_long';
CREATE INDEX dead_letters_event ON dead_letters (event_seq) WHERE event_seq IS NOT NULL;
CREATE INDEX runs_good ON runs (sink_id, id) WHERE done > 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',3);
COMMIT;
