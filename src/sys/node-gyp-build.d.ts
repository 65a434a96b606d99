/** The loader of addons, as far as it is used. */
declare module 'node-gyp-build' {
  interface Loader {
    (directory: string): unknown;
    /** The file that would be loaded. */
    resolve(directory: string): string;
  }
  const load: Loader;
  export default load;
}
