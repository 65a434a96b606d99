/** How commands print findings. */
import { type Finding, findingAsText, findingFields } from '../mount/finding.ts';
import { type ByteString, byteStringFromText } from '../sys/bytes.ts';
import { jsonLine } from '../terminal/json-lines.ts';

/** The line of a finding with its newline: JSON, or text for people. */
export const findingLine = (finding: Finding, json: true | undefined): ByteString =>
  json ? jsonLine(findingFields(finding)) : byteStringFromText(`${findingAsText(finding)}\n`);
