-- install
DELIMITER //
CREATE TABLE `sales`.`crossdock_log_order_lines` (
  crossdock_seq bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
  crossdock_op char(1) CHARACTER SET ascii NOT NULL,
  crossdock_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  crossdock_note text CHARACTER SET utf8mb4 NULL,
  `order no` bigint NULL,
  `sku` char(12) CHARACTER SET latin1 COLLATE latin1_german1_ci NULL,
  `quantity` decimal(12,3) NULL,
  `changed_at` datetime(6) NULL
) ENGINE=InnoDB
//
SET SESSION sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_ins`
//
CREATE TRIGGER `sales`.`crossdock_order_lines_ins` AFTER INSERT ON `sales`.`order_lines` FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT 'crossdock 5829b8bb9698';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, crossdock_note)
    VALUES ('X', CONCAT('INSERT: ', COALESCE(said, '?')));
  END;
  INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('I', NEW.`order no`, NEW.`sku`, NEW.`quantity`, NEW.`changed_at`);
END
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_upd`
//
CREATE TRIGGER `sales`.`crossdock_order_lines_upd` AFTER UPDATE ON `sales`.`order_lines` FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT 'crossdock 5829b8bb9698';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, crossdock_note)
    VALUES ('X', CONCAT('UPDATE: ', COALESCE(said, '?')));
  END;
  IF NOT (BINARY OLD.`order no` <=> BINARY NEW.`order no`)
    OR NOT (BINARY OLD.`sku` <=> BINARY NEW.`sku`) THEN
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('D', OLD.`order no`, OLD.`sku`, OLD.`quantity`, OLD.`changed_at`);
  END IF;
  INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('U', NEW.`order no`, NEW.`sku`, NEW.`quantity`, NEW.`changed_at`);
END
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_del`
//
CREATE TRIGGER `sales`.`crossdock_order_lines_del` AFTER DELETE ON `sales`.`order_lines` FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT 'crossdock 5829b8bb9698';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, crossdock_note)
    VALUES ('X', CONCAT('DELETE: ', COALESCE(said, '?')));
  END;
  INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('D', OLD.`order no`, OLD.`sku`, OLD.`quantity`, OLD.`changed_at`);
END
//
GRANT SELECT, DELETE ON `sales`.`crossdock_log_order_lines` TO reader
//
GRANT SELECT, TRIGGER ON `sales`.`order_lines` TO reader
//
DELIMITER ;

-- amend: changed_at was added, sku has another type, a column was dropped
DELIMITER //
ALTER TABLE `sales`.`crossdock_log_order_lines` ADD COLUMN `changed_at` datetime(6) NULL, MODIFY COLUMN `sku` char(12) CHARACTER SET latin1 COLLATE latin1_german1_ci NULL
//
SET SESSION sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_ins`
//
CREATE TRIGGER `sales`.`crossdock_order_lines_ins` AFTER INSERT ON `sales`.`order_lines` FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT 'crossdock 5829b8bb9698';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, crossdock_note)
    VALUES ('X', CONCAT('INSERT: ', COALESCE(said, '?')));
  END;
  INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('I', NEW.`order no`, NEW.`sku`, NEW.`quantity`, NEW.`changed_at`);
END
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_upd`
//
CREATE TRIGGER `sales`.`crossdock_order_lines_upd` AFTER UPDATE ON `sales`.`order_lines` FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT 'crossdock 5829b8bb9698';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, crossdock_note)
    VALUES ('X', CONCAT('UPDATE: ', COALESCE(said, '?')));
  END;
  IF NOT (BINARY OLD.`order no` <=> BINARY NEW.`order no`)
    OR NOT (BINARY OLD.`sku` <=> BINARY NEW.`sku`) THEN
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('D', OLD.`order no`, OLD.`sku`, OLD.`quantity`, OLD.`changed_at`);
  END IF;
  INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('U', NEW.`order no`, NEW.`sku`, NEW.`quantity`, NEW.`changed_at`);
END
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_del`
//
CREATE TRIGGER `sales`.`crossdock_order_lines_del` AFTER DELETE ON `sales`.`order_lines` FOR EACH ROW
BEGIN
  DECLARE crossdock_plan char(30) DEFAULT 'crossdock 5829b8bb9698';
  DECLARE EXIT HANDLER FOR SQLEXCEPTION
  BEGIN
    DECLARE said text;
    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
    GET DIAGNOSTICS CONDITION 1 said = MESSAGE_TEXT;
    INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, crossdock_note)
    VALUES ('X', CONCAT('DELETE: ', COALESCE(said, '?')));
  END;
  INSERT INTO `sales`.`crossdock_log_order_lines` (crossdock_op, `order no`, `sku`, `quantity`, `changed_at`)
    VALUES ('D', OLD.`order no`, OLD.`sku`, OLD.`quantity`, OLD.`changed_at`);
END
//
GRANT SELECT, DELETE ON `sales`.`crossdock_log_order_lines` TO reader
//
GRANT SELECT, TRIGGER ON `sales`.`order_lines` TO reader
//
DELIMITER ;

-- remove
DELIMITER //
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_ins`
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_upd`
//
DROP TRIGGER IF EXISTS `sales`.`crossdock_order_lines_del`
//
DROP TABLE IF EXISTS `sales`.`crossdock_log_order_lines`
//
DELIMITER ;

-- look: columns, triggers
DELIMITER //
SELECT COLUMN_NAME, CONCAT(COLUMN_TYPE, CASE WHEN COLLATION_NAME IS NULL THEN '' ELSE
 CONCAT(' CHARACTER SET ', CHARACTER_SET_NAME, ' COLLATE ', COLLATION_NAME) END)
FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION
//
SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS
WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ?
//
DELIMITER ;

