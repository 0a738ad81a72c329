-- Schema 0004, in use before it was released; never edited.
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
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE api_calls (
	user TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	operation TEXT NOT NULL, 
	at_us BIGINT NOT NULL, 
	PRIMARY KEY (user, "key")
);
INSERT INTO "api_calls" VALUES('x','x','x',1);
CREATE TABLE api_tokens (
	id TEXT NOT NULL, 
	hash BLOB NOT NULL, 
	user TEXT NOT NULL, 
	name TEXT NOT NULL, 
	created_us BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	expires_us BIGINT NOT NULL, 
	last_used_us BIGINT DEFAULT '0' NOT NULL, 
	revoked_us BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(user) REFERENCES users (name)
);
INSERT INTO "api_tokens" VALUES('x',X'0102','x','x',1,'x',1,1,1);
CREATE TABLE approvals (
	proposal INTEGER NOT NULL, 
	person TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	comment TEXT NOT NULL, 
	at_us BIGINT NOT NULL, 
	PRIMARY KEY (proposal, person)
);
INSERT INTO "approvals" VALUES(1,'x','x','x',1);
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
CREATE TABLE audit (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	at_us BIGINT NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	target TEXT NOT NULL, 
	details TEXT NOT NULL, 
	hash BLOB NOT NULL
);
INSERT INTO "audit" VALUES(1,1,'x','x','x','x',X'0102');
CREATE TABLE bodies (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	data BLOB NOT NULL
);
CREATE TABLE certificates (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	serial TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	authority TEXT NOT NULL, 
	key_sha256 TEXT NOT NULL, 
	issued_us BIGINT NOT NULL, 
	expires_us BIGINT NOT NULL, 
	how TEXT NOT NULL, 
	bundle TEXT DEFAULT '' NOT NULL, 
	first_used_us BIGINT DEFAULT '0' NOT NULL, 
	use_order BIGINT DEFAULT '0' NOT NULL, 
	UNIQUE (serial)
);
INSERT INTO "certificates" VALUES(1,'x','x','x','x',1,1,'x','x',1,1);
CREATE TABLE command_outputs (
	id TEXT NOT NULL, 
	part INTEGER NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY (id, part)
);
INSERT INTO "command_outputs" VALUES('x',1,X'0102');
CREATE TABLE commands (
	id TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	name TEXT NOT NULL, 
	arguments TEXT NOT NULL, 
	"by" TEXT NOT NULL, 
	created_us BIGINT NOT NULL, 
	expires_us BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	sent_us BIGINT DEFAULT '0' NOT NULL, 
	started_us BIGINT DEFAULT '0' NOT NULL, 
	ended_us BIGINT DEFAULT '0' NOT NULL, 
	error TEXT DEFAULT '' NOT NULL, 
	output_bytes BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "commands" VALUES('x','x','x','x','x',1,1,'x',1,1,1,'x',1);
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
CREATE TABLE enrolments (
	id INTEGER NOT NULL, 
	token TEXT NOT NULL, 
	key_sha256 TEXT NOT NULL, 
	code TEXT NOT NULL, 
	agent TEXT NOT NULL, 
	site TEXT NOT NULL, 
	host TEXT NOT NULL, 
	platform TEXT NOT NULL, 
	version TEXT NOT NULL, 
	machine TEXT NOT NULL, 
	address TEXT NOT NULL, 
	state TEXT NOT NULL, 
	first_us BIGINT NOT NULL, 
	last_us BIGINT NOT NULL, 
	decided_us BIGINT DEFAULT '0' NOT NULL, 
	decided_by TEXT DEFAULT '' NOT NULL, 
	because TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (token, key_sha256)
);
INSERT INTO "enrolments" VALUES(1,'x','x','x','x','x','x','x','x','x','x','x',1,1,1,'x','x');
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
CREATE TABLE grants (
	user TEXT NOT NULL, 
	role TEXT NOT NULL, 
	selector TEXT NOT NULL, 
	created_us BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	PRIMARY KEY (user, role, selector), 
	FOREIGN KEY(user) REFERENCES users (name)
);
INSERT INTO "grants" VALUES('x','x','x',1,'x');
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
CREATE TABLE machines (
	agent TEXT NOT NULL, 
	machine TEXT NOT NULL, 
	host TEXT NOT NULL, 
	since_us BIGINT NOT NULL, 
	moving_us BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (agent)
);
INSERT INTO "machines" VALUES('x','x','x',1,1);
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
CREATE TABLE proposals (
	number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	base INTEGER NOT NULL, 
	hash TEXT NOT NULL, 
	tree TEXT NOT NULL, 
	environment TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	message TEXT NOT NULL, 
	needs TEXT NOT NULL, 
	options TEXT DEFAULT '{}' NOT NULL, 
	state TEXT NOT NULL, 
	created_us BIGINT NOT NULL, 
	settled_us BIGINT DEFAULT '0' NOT NULL, 
	settled_by TEXT DEFAULT '' NOT NULL, 
	reason TEXT DEFAULT '' NOT NULL, 
	revision INTEGER DEFAULT '0' NOT NULL
);
INSERT INTO "proposals" VALUES(1,1,'x','x','x','x','x','x','x','x','x',1,1,'x','x',1);
CREATE TABLE refusals (
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	address TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	first_us BIGINT NOT NULL, 
	last_us BIGINT NOT NULL, 
	said_us BIGINT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (kind, subject, address)
);
INSERT INTO "refusals" VALUES('x','x','x',1,1,1,1,'x');
CREATE TABLE revision_environments (
	revision INTEGER NOT NULL, 
	environment TEXT NOT NULL, 
	PRIMARY KEY (revision)
);
INSERT INTO "revision_environments" VALUES(1,'x');
CREATE TABLE revisions (
	number INTEGER NOT NULL, 
	hash TEXT NOT NULL, 
	tree TEXT NOT NULL, 
	author TEXT NOT NULL, 
	message TEXT NOT NULL, 
	created_us INTEGER NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE revocations (
	agent TEXT NOT NULL, 
	at_us BIGINT NOT NULL, 
	by_whom TEXT NOT NULL, 
	because TEXT NOT NULL, 
	until_seq BIGINT NOT NULL, 
	PRIMARY KEY (agent)
);
INSERT INTO "revocations" VALUES('x',1,'x','x',1);
CREATE TABLE rollouts (
	revision INTEGER NOT NULL, 
	base INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	steps INTEGER DEFAULT '0' NOT NULL, 
	"plan" TEXT NOT NULL, 
	progress TEXT NOT NULL, 
	why TEXT DEFAULT '' NOT NULL, 
	evidence TEXT DEFAULT '[]' NOT NULL, 
	started_us BIGINT NOT NULL, 
	ended_us BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (revision)
);
INSERT INTO "rollouts" VALUES(1,1,'x',1,'x','x','x','x',1,1);
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
CREATE TABLE sightings (
	agent TEXT NOT NULL, 
	instance BLOB DEFAULT (x'') NOT NULL, 
	starts INTEGER DEFAULT '0' NOT NULL, 
	offered INTEGER DEFAULT '0' NOT NULL, 
	offered_hash TEXT DEFAULT '' NOT NULL, 
	offered_us BIGINT DEFAULT '0' NOT NULL, 
	effective INTEGER DEFAULT '0' NOT NULL, 
	effective_hash TEXT DEFAULT '' NOT NULL, 
	effective_us BIGINT DEFAULT '0' NOT NULL, 
	said_of INTEGER DEFAULT '0' NOT NULL, 
	said TEXT DEFAULT '' NOT NULL, 
	reason TEXT DEFAULT '' NOT NULL, 
	log TEXT DEFAULT '[]' NOT NULL, 
	said_us BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (agent)
);
INSERT INTO "sightings" VALUES('x',X'0102',1,1,'x',1,1,'x',1,1,'x','x','x',1);
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
CREATE TABLE site_targets (
	site TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	PRIMARY KEY (site)
);
INSERT INTO "site_targets" VALUES('x',1);
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
CREATE TABLE token_authorities (
	hash TEXT NOT NULL, 
	authority TEXT NOT NULL, 
	PRIMARY KEY (hash)
);
INSERT INTO "token_authorities" VALUES('x','x');
CREATE TABLE token_terms (
	hash TEXT NOT NULL, 
	uses INTEGER NOT NULL, 
	approve INTEGER NOT NULL, 
	made_by TEXT NOT NULL, 
	revoked_us BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (hash)
);
INSERT INTO "token_terms" VALUES('x',1,1,'x',1);
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
CREATE TABLE trusts (
	agent TEXT NOT NULL, 
	authority TEXT NOT NULL, 
	confirmed_us BIGINT NOT NULL, 
	PRIMARY KEY (agent, authority)
);
INSERT INTO "trusts" VALUES('x','x',1);
CREATE TABLE users (
	name TEXT NOT NULL, 
	email TEXT DEFAULT '' NOT NULL, 
	oidc_subject TEXT DEFAULT '' NOT NULL, 
	disabled INTEGER DEFAULT '0' NOT NULL, 
	created_us BIGINT NOT NULL, 
	created_by TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "users" VALUES('x','x','x',1,1,'x');
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
CREATE INDEX certificates_agent ON certificates (agent, use_order);
CREATE INDEX certificates_seen ON certificates (seq) WHERE how = 'seen';
CREATE INDEX enrolments_agent ON enrolments (agent, state);
CREATE INDEX proposals_open ON proposals (state);
CREATE INDEX commands_by_time ON commands (created_us);
CREATE INDEX commands_unanswered ON commands (agent) WHERE state IN ('waiting', 'sent', 'running');
CREATE UNIQUE INDEX users_oidc_subject ON users (oidc_subject) WHERE oidc_subject != '';
CREATE UNIQUE INDEX users_email ON users (email) WHERE email != '';
CREATE INDEX api_tokens_user ON api_tokens (user);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_insert BEFORE INSERT ON audit WHEN NEW.seq <= (SELECT coalesce(max(seq), 0) FROM audit) BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',3);
INSERT INTO "sqlite_sequence" VALUES('audit',1);
INSERT INTO "sqlite_sequence" VALUES('certificates',1);
INSERT INTO "sqlite_sequence" VALUES('proposals',1);
COMMIT;
