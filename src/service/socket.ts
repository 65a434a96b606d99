/** Where clients of the service connect. */
export const SERVICE_SOCKET = '/run/lowerdata/io.lowerdata.Mount';
