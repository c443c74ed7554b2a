-- A store as the first version of every table was written by an agent that was killed: one instance whose log waits for its
-- server, two that are closed. Not to be changed: what later versions make of it is what a test looks at.
BEGIN TRANSACTION;
CREATE TABLE joblog_cursor (
              instance_id INTEGER NOT NULL,
              sink TEXT NOT NULL,
              next INTEGER NOT NULL,
              PRIMARY KEY (instance_id, sink)
          ) WITHOUT ROWID;
INSERT INTO "joblog_cursor" VALUES(1004487671092871232,'powerjob-server',13);
INSERT INTO "joblog_cursor" VALUES(1004487671348723776,'powerjob-server',10);
CREATE TABLE llm_agent (id TEXT NOT NULL);
INSERT INTO "llm_agent" VALUES('4b59e65249e00d137cc15193');
CREATE TABLE llm_runs (
        instance_id INTEGER PRIMARY KEY,
        stage TEXT NOT NULL,
        log_dir TEXT,
        updated_ms INTEGER NOT NULL,
        record TEXT NOT NULL
    );
CREATE TABLE notify_sent (
        instance_id INTEGER NOT NULL,
        channel TEXT NOT NULL,
        sent_ms INTEGER NOT NULL,
        PRIMARY KEY (instance_id, channel)
    ) WITHOUT ROWID;
CREATE TABLE powerjob_closed (
              seq INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, instance_id INTEGER NOT NULL,
              last_report_time INTEGER NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL,
              log_open INTEGER NOT NULL DEFAULT 1, UNIQUE (lane, instance_id));
INSERT INTO "powerjob_closed" VALUES(1,'main',1004487671092871232,1795264523304,1,'FAILED',0);
INSERT INTO "powerjob_closed" VALUES(2,'main',1004487671348723776,1795264523352,1,'FAILED',0);
CREATE TABLE powerjob_instance (
              lane TEXT NOT NULL, instance_id INTEGER NOT NULL, record TEXT NOT NULL, request TEXT,
              PRIMARY KEY (lane, instance_id)) WITHOUT ROWID;
INSERT INTO "powerjob_instance" VALUES('main',1004487671348723777,'{"dispatch":{"job_id":1,"instance_id":1004487671348723777,"wf_instance_id":null,"execute_type":"STANDALONE","time_expression_type":"API","processor_type":"BUILT_IN","processor_info":"RunLLMTest","timeout_ms":null,"task_retry_num":0,"job_params":"{\"bad\":1}","instance_params":null,"log_config":"{\"level\":2,\"type\":1}"},"stage":{"Draining":{"success":false,"result":"stage plan failed: the parameters of RunLLMTest are not usable","appended_context":{},"end_time":1795264542043}},"attempt":1,"retries_used":0,"received_at":1795264542030,"started_at":1795264542030,"last_report_time":0,"seq":2,"boundary_open":false,"run_ms":0,"written_at":1795264542043,"next":null}','{"allWorkerAddress":["127.0.0.1:17792"],"maxWorkerCount":0,"jobId":1,"instanceId":1004487671348723777,"executeType":"STANDALONE","processorType":"BUILT_IN","processorInfo":"RunLLMTest","instanceTimeoutMS":0,"jobParams":"{\"bad\":1}","threadConcurrency":5,"taskRetryNum":0,"timeExpressionType":"API","maxInstanceNum":0,"logConfig":"{\"level\":2,\"type\":1}"}');
CREATE TABLE powerjob_meta (
              lane TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (lane, key)) WITHOUT ROWID;
INSERT INTO "powerjob_meta" VALUES('main','address','127.0.0.1:17792');
INSERT INTO "powerjob_meta" VALUES('main','owner','{"transport":"127.0.0.1:17791","web":"127.0.0.1:17790","born_time":1795264518626,"app_id":1}');
CREATE TABLE schema_migrations (
    module TEXT NOT NULL,
    version INTEGER NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    PRIMARY KEY (module, version)
) WITHOUT ROWID;
INSERT INTO "schema_migrations" VALUES('joblog',1,'2026-11-21T12:35:20Z');
INSERT INTO "schema_migrations" VALUES('notify_result',1,'2026-11-21T12:35:20Z');
INSERT INTO "schema_migrations" VALUES('powerjob',1,'2026-11-21T12:35:20Z');
INSERT INTO "schema_migrations" VALUES('run_llm_test',1,'2026-11-21T12:35:20Z');
INSERT INTO "schema_migrations" VALUES('run_llm_test',2,'2026-11-21T12:35:20Z');
CREATE INDEX llm_runs_log_dir ON llm_runs (log_dir);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('powerjob_closed',2);
COMMIT;
