# shellcheck shell=bash
# Small Java programs of the tests: a pom.xml that lists what is fetched, and sources beside it. Source it after common.sh.

java_is_new() { have java && [[ $(java -version 2>&1) =~ version\ \"([0-9]+) ]] && ((BASH_REMATCH[1] >= 11)); }
need_java() {
  java_is_new || apt_install default-jre-headless
  java_is_new || die "no Java of version 11 or newer"
  have curl || apt_install curl
}

# The compiler comes with a JDK only.
need_jdk() {
  { have javac && java_is_new; } || apt_install default-jdk-headless
  java_is_new || die "no Java of version 11 or newer"
}

# java_class_path NAME FOLDER: prints the class path of a program, after it has been fetched and compiled if that is not in the
# cache. What was fetched and what was compiled are kept apart: a changed source does not fetch anything again.
java_class_path() {
  local name=$1 folder=$2 libs classes
  need_jdk
  libs=$(cached "$name-libs-$(content_key "$folder/pom.xml")" java_fetch "$folder/pom.xml")
  mapfile -d '' -t files < <(find "$folder" -type f -print0 | sort -z)
  classes=$(cached "$name-classes-$(content_key "${files[@]}")" java_compile "$folder" "$libs")
  echo "$classes/classes.jar:$libs/*"
}
content_key() { cat "$@" | sha256sum | cut -c1-12; }

java_fetch() {
  have mvn || apt_install maven default-jre-headless
  quietly "fetch-$(basename "$(dirname "$2")")" mvn -q -B -f "$2" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$1"
}

java_compile() {
  local out=$1 folder=$2 libs=$3 sources
  mapfile -d '' -t sources < <(find "$folder" -name '*.java' -print0)
  # -parameters: names of request parameters are those of the method. No annotation processors: a jar of the server brings one.
  quietly "compile-$(basename "$folder")" javac -parameters -proc:none -nowarn -encoding UTF-8 -cp "$libs/*" -d classes \
    "${sources[@]}"
  find "$folder" -maxdepth 1 -type f -not -name pom.xml -exec cp {} classes/ \;
  jar --create --file "$out/classes.jar" -C classes .
}
